"""The plot of bench/compare: a bar for each model, as long as its speed-up over the best peer, in groups by batch. Standard library only."""

from html import escape

import results

LEFT, WIDTH, RIGHT = 150, 480, 150  # names, bars, what stands behind the longest bar
ROW, BAR, TOP, HEAD = 22, 14, 70, 30  # pixels; HEAD: above the bars of a group
LEAST_END = 1.25  # of the axis, so that the line at 1 stands inside
MOST_TICKS = 8

# Attributes give the light look, which every reader of SVG knows; the dark one is for those that know the reader's preference.
LIGHT = {"page": "#ffffff", "ink": "#1f2328", "quiet": "#59636e", "grid": "#dddddd", "faster": "#2f6fb0", "slower": "#d08020", "mean": "#2a9d4a"}
DARK = {"page": "#0d1117", "ink": "#e6edf3", "quiet": "#9198a1", "grid": "#30363d", "faster": "#5b9bd8", "slower": "#e0a050", "mean": "#4cbf6c"}


def style():
    rules = " ".join(f".{name} {{ fill: {colour} }} .{name}-line {{ stroke: {colour} }}" for name, colour in DARK.items())
    return f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>"


def text(x, y, content, colour="ink", **attributes):
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text class="{colour}" fill="{LIGHT[colour]}" x="{x:.1f}" y="{y:.1f}"{more}>{escape(content, quote=False)}</text>'


def rectangle(x, y, width, height, colour):
    return f'<rect class="{colour}" fill="{LIGHT[colour]}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def upright(x, top, bottom, colour, **attributes):
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<line class="{colour}-line" stroke="{LIGHT[colour]}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"{more}/>'


def ticks(end):
    """Even values from 0 to the end of the axis, in steps of 1, 2 or 5 times a power of ten or a quarter of one."""
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e9) if end / step <= MOST_TICKS)
    return [step * number for number in range(int(end / step + 1e-9) + 1)]


def bar(y, name, speedup, after, colour, scale, **attributes):
    """One line of the plot; no bar without a speed-up. Its figure stands right of the bar and of the line at 1."""
    parts = [text(LEFT - 8, y + BAR - 3, name, text_anchor="end", **attributes)]
    if speedup:
        parts.append(rectangle(LEFT, y, speedup * scale, BAR, colour))
    figure = f"{speedup:.2f}  {after}".strip() if speedup else after
    return [*parts, text(LEFT + (max(speedup, 1) * scale if speedup else 0) + 6, y + BAR - 3, figure, "ink" if speedup else "quiet", **attributes)]


def group(y, batch, models, engine_names, scale):
    """The lines of one batch, from y on, and the y below them."""
    models = [model for model in models if model["batch"] == batch]
    parts, y = [text(LEFT, y + HEAD - 10, f"batch {batch}", font_weight="bold")], y + HEAD
    for model in models:
        speedup = model["speedup_over_best_peer"]
        after = engine_names[model["best_peer"]] if speedup else "failed" if results.lost(model) else "no peer to compare with"
        parts += bar(y, model["name"], speedup, after, "faster" if speedup and speedup >= 1 else "slower", scale)
        y += ROW
    mean = results.geomean(results.speedups(models))
    if mean:
        parts += bar(y, "geometric mean", mean, "", "mean", scale, font_weight="bold")
        y += ROW
    return parts, y


def svg(result, engine_names):
    """The picture of a result (results.py) as text; engine_names: for the reader, by the names of the result."""
    models, about = result["models"], result["machine"]
    end = max([LEAST_END, *results.speedups(models)])
    scale = WIDTH / end
    parts, y = [], TOP
    for batch in results.batches(models):
        more, y = group(y, batch, models, engine_names, scale)
        parts += more
    grid = [upright(LEFT + value * scale, TOP, y, "grid") for value in ticks(end)]
    labels = [text(LEFT + value * scale, y + 16, f"{value:g}", "quiet", text_anchor="middle") for value in ticks(end)]
    title = f"Speed-up over the best peer: policy {result['policy']}, {result['threads']} threads"
    width, height = LEFT + WIDTH + RIGHT, y + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        style(),
        rectangle(0, 0, width, height, "page"),
        text(10, 22, title, font_size=14, font_weight="bold"),
        text(10, 42, f"{about['cpu']}, {about['cores']} cores, {about['date']}", "quiet"),
        text(10, 58, "The best peer's time over Tilewright's, and that peer's name; above 1, Tilewright is faster", "quiet"),
        *grid,
        *parts,
        upright(LEFT + scale, TOP, y, "ink", stroke_dasharray="4 3"),
        *labels,
        "</svg>",
    ]) + "\n"
