"use strict";
// Draws each figure's curves with uPlot; without this script the page shows them as drawings.
(() => {
  const data = document.getElementById("curves-data");
  if (!data) return;
  const all = JSON.parse(data.textContent);
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value)) return String(value);
    return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  };
  const tick = (value) => {
    if (value === null || value === undefined) return "";
    return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(0) : String(Number(value.toPrecision(3)));
  };
  const font = "12px system-ui, sans-serif";
  const width = (place) => Math.max(160, Math.floor(place.getBoundingClientRect().width));

  const options = (plot, place, log) => {
    const hasBand = plot.series.some((one) => one.band);
    const marks = (chart) => {
      const context = chart.ctx, { left, top, height, width } = chart.bbox;
      context.save();
      context.strokeStyle = variable("--accent");
      context.lineWidth = 1.5 * devicePixelRatio;
      plot.marks.forEach((mark) => {
        const x = chart.valToPos(mark.at, "x", true);
        if (x < left || x > left + width) return;
        context.setLineDash(mark.dash.map((length) => length * devicePixelRatio));
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x, top + height);
        context.stroke();
      });
      context.restore();
    };
    const axis = { stroke: () => variable("--quiet"), font, grid: { stroke: () => variable("--line"), width: 0.6 }, ticks: { stroke: () => variable("--line"), width: 0.6, size: 4 } };
    return {
      width: width(place), height: 230,
      cursor: { sync: { key: plot.x }, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      legend: { live: true },
      series: [
        { label: plot.x, value: (_, value) => shown(value) },
        ...plot.series.map((one) => ({
          label: one.label, value: (_, value) => shown(value), stroke: () => variable(one.colour),
          width: one.band ? 0 : 1.6, points: { show: !one.band && plot.xs.length <= 40, size: 5, fill: () => variable(one.colour) },
        })),
      ],
      bands: hasBand ? [{ series: [2, 3], fill: () => `${variable(plot.series[1].colour)}40` }] : [],
      axes: [
        { ...axis, size: 34, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7], values: (_, ticks) => ticks.map(tick) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map(tick) },
      ],
      hooks: { draw: [marks] },
    };
  };

  const show = (figure, plot) => {
    const place = figure.querySelector(".plot"), drawing = figure.querySelector(".drawing");
    const [logarithm, whole] = figure.querySelectorAll(".tools button");
    const positive = plot.series.some((one) => one.values.some((value) => value > 0));
    let log = plot.log && positive, chart = null;
    const draw = () => {
      chart?.destroy();
      const columns = plot.series.map((one) => (log ? one.values.map((value) => (value > 0 ? value : null)) : one.values));
      chart = new uPlot(options(plot, place, log), [plot.xs, ...columns], place);
      logarithm.setAttribute("aria-pressed", String(log));
      figure.uplot = chart;
    };
    if (drawing) drawing.hidden = true;
    figure.hidden = place.hidden = false;
    figure.querySelector(".tools").hidden = false;
    logarithm.hidden = !positive;
    draw();
    logarithm.addEventListener("click", () => { log = !log; draw(); });
    whole.addEventListener("click", () => chart.setData(chart.data, true));
    new ResizeObserver(() => { if (width(place) !== chart.width) chart.setSize({ width: width(place), height: 230 }); }).observe(figure);
    return () => chart.redraw(false, true);
  };

  const redraw = [...document.querySelectorAll("[data-plot]")].map((figure) => show(figure, all[Number(figure.dataset.plot)]));
  document.querySelectorAll("[data-with-script]").forEach((part) => { part.hidden = false; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw.forEach((again) => again()));
})();
