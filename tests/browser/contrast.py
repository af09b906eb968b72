"""Contrasts of what a widget shows."""

# Contrast of all text and of all marks in plots; what is switched off counts as neither.
MEASURE = """root => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const over = (colour, ground, opacity) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        const share = opacity * a / 255;
        return [r, g, b].map((value, i) => share * value + (1 - share) * ground[i]);
    };
    const ground = element => {
        const above = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
        return over(getComputedStyle(element).backgroundColor, above, 1);
    };
    const luminance = colour => {
        const [r, g, b] = colour.map(value => {
            const share = value / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (element, colour) => {
        const style = getComputedStyle(element);
        const below = ground(element);
        const [dark, light] = [luminance(below), luminance(over(colour, below, style.opacity))]
            .sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    };
    const texts = [], marks = [];
    for (const element of root.querySelectorAll("*")) {
        if (!element.checkVisibility() || element.closest("[disabled], .toolbar_div")) continue;
        const style = getComputedStyle(element);
        const text = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)
            .map(node => node.data).join("").trim();
        const svg = element instanceof SVGElement;
        const glyph = /^[━╍●✚▼▲■]$/.test(text); // a mark of a plot, in its legend
        if (text && element.tagName !== "OPTION")
            (glyph ? marks : texts).push(
                [contrast(element, svg ? style.fill : style.color), text]);
        const drawn = ".gallery-map path, .curve polyline, .playground path.mark";
        if (element.matches(drawn) && element.getAttribute("d") !== "")
            marks.push([Math.max(...[style.fill, style.stroke].filter(paint => paint !== "none")
                .map(paint => contrast(element, paint))), element.outerHTML.slice(0, 200)]);
    }
    return {texts, marks};
}"""
