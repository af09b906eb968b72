// Batch hard and batch all on points in the plane: what tripletlib/losses.py computes, in the page.

function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

// All triplets, as indices [anchor, positive, negative].
function allTriplets(labels) {
  const indices = [...labels.keys()];
  return indices.flatMap((a) => {
    const positives = indices.filter((i) => labels[i] === labels[a] && i !== a);
    const negatives = indices.filter((i) => labels[i] !== labels[a]);
    return positives.flatMap((p) => negatives.map((n) => [a, p, n]));
  });
}

// d_pos - d_neg: how far a triplet is from what it asks for.
function difference(points, [a, p, n]) {
  return distance(points[a], points[p]) - distance(points[a], points[n]);
}

// Of each anchor the triplet of its farthest positive and its nearest negative.
function hardestTriplets(points, triplets) {
  const hardest = new Map();
  for (const triplet of triplets) {
    const found = hardest.get(triplet[0]);
    if (!found || difference(points, triplet) > difference(points, found))
      hardest.set(triplet[0], triplet);
  }
  return [...hardest.values()];
}

// Loss of one triplet, its slope, and whether the triplet is active; the margin may be "soft".
function tripletLoss(x, margin) {
  if (margin === "soft") {
    const loss = Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x)));
    return { loss, slope: 1 / (1 + Math.exp(-x)), active: x >= 0 };
  }
  const active = x + margin > 0;
  return { loss: active ? x + margin : 0, slope: Number(active), active };
}

// Mean over some triplets: loss, share of active ones, and the loss's gradient at every point.
function meanLoss(points, triplets, margin) {
  const gradient = points.map(() => [0, 0]);
  const pull = (i, j, slope) => {
    const far = distance(points[i], points[j]) || Infinity; // at distance 0 the gradient counts as 0
    for (const axis of [0, 1]) {
      const share = slope * (points[i][axis] - points[j][axis]) / far;
      gradient[i][axis] += share;
      gradient[j][axis] -= share;
    }
  };
  const mean = { loss: 0, active: 0, gradient };
  for (const triplet of triplets) {
    const [a, p, n] = triplet;
    const { loss, slope, active } = tripletLoss(difference(points, triplet), margin);
    mean.loss += loss / triplets.length;
    mean.active += active / triplets.length;
    pull(a, p, slope / triplets.length);
    pull(a, n, -slope / triplets.length);
  }
  return mean;
}

// What both losses make of points: `hard` and `all` as above, and the triplets that `hard` chose.
function measure({ points, margin }, triplets) {
  const choices = hardestTriplets(points, triplets);
  const [hard, all] = [choices, triplets].map((some) => meanLoss(points, some, margin));
  return { choices, hard, all };
}
