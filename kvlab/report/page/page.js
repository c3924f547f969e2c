// Draws the figures of the page with Plotly, which it carries compressed. It asks no network.
"use strict";
(async () => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const charts = [...document.querySelectorAll("[data-figure]")];
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
  };

  async function library() {
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // Colours have names in figures, so that they fit light and dark.
  function coloured(value, styles) {
    if (typeof value === "string") {
      return value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "object" ? value.map((one) => coloured(one, styles)) : [...value];
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, coloured(one, styles)]));
    }
    return value;
  }

  function withStyle(layout, styles) {
    const [ink, grid, card, edge] = ["--ink", "--grid", "--card", "--edge"].map((one) => styles.getPropertyValue(one).trim());
    const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name));
    const styled = axes.map((name) => [name, { gridcolor: grid, linecolor: edge, tickcolor: edge, ...layout[name] }]);
    return {
      ...layout,
      ...Object.fromEntries(styled),
      paper_bgcolor: card,
      plot_bgcolor: card,
      dragmode: matchMedia("(max-width: 620px)").matches ? false : "zoom", // a finger scrolls
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      hoverlabel: { align: "left", bgcolor: card, bordercolor: edge, font: { color: ink, size: 12 } },
    };
  }

  function draw(chart) {
    const styles = getComputedStyle(document.documentElement);
    const figure = coloured(figures[chart.dataset.figure], styles);
    const layout = withStyle(figure.layout, styles);
    if (chart.layout?.xaxis?.range && layout.xaxis.range) layout.xaxis.range = [...chart.layout.xaxis.range];
    return Plotly.react(chart, figure.data, layout, config);
  }

  // A choice of time in the overview is one for the clients too; they may look closer still.

  const [overview, clients] = ["overview", "clients"].map((name) => document.querySelector(`[data-figure=${name}]`));

  function look(range, button) {
    Plotly.relayout(clients, { "xaxis.range": range });
    for (const one of document.querySelectorAll("button.on")) one.classList.remove("on");
    button?.classList.add("on");
  }

  function follow(change) {
    if (change["xaxis.range[0]"] !== undefined) look([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
    else if (change["xaxis.range"]) look([...change["xaxis.range"]]);
    else if (change["xaxis.autorange"]) look([...figures.overview.layout.xaxis.range]);
  }

  function onButton(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { copy, from, until } = button.dataset;
    if (copy) {
      const words = document.getElementById(copy);
      getSelection().selectAllChildren(words);
      navigator.clipboard?.writeText(words.textContent).then(() => { button.textContent = "copied"; }, () => {});
    } else if (from !== undefined) look([Number(from), Number(until)], button);
    else if ("all" in button.dataset) look([...figures.overview.layout.xaxis.range], button);
  }

  document.addEventListener("click", onButton);
  try {
    await library();
    for (const chart of charts) await draw(chart);
    if (overview && clients) overview.on("plotly_relayout", follow);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));
    document.documentElement.dataset.drawn = String(charts.length);
  } catch (problem) {
    const said = document.getElementById("problem");
    said.hidden = false;
    said.textContent = `The charts cannot be drawn here (${problem}). The tables hold the same figures.`;
    throw problem;
  }
})();
