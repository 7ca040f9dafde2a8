"use strict";
// What a plot says where the pointer is, and which things are shown.

const inverse = {
  linear: (at, low, high) => low + at * (high - low),
  log: (at, low, high) => low * (high / low) ** at,
  percentile: (at, low, high) => 100 * (1 - (1 - high) ** at),
};

function value(scale, at) {
  const [kind, low, high] = scale.split(" ");
  const found = inverse[kind](at, Number(low), Number(high));
  return kind === "percentile" ? found.toPrecision(5) : found.toPrecision(3);
}

for (const plot of document.querySelectorAll("svg.plot")) {
  const said = plot.parentElement.querySelector("output");
  const { left, right, top, bottom } = JSON.parse(plot.dataset.area);
  plot.addEventListener("pointermove", (event) => {
    const here = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    const [across, up] = [(here.x - left) / (right - left), (bottom - here.y) / (bottom - top)];
    const inside = across >= 0 && across <= 1 && up >= 0 && up <= 1;
    said.textContent = inside
      ? `${plot.dataset.across} ${value(plot.dataset.x, across)}: ${value(plot.dataset.y, up)} ${plot.dataset.up}`
      : "";
  });
  plot.addEventListener("pointerleave", () => { said.textContent = ""; });
}

for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => {
    const isShown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", isShown);
    for (const line of document.querySelectorAll(`svg [data-group="${button.dataset.group}"]`)) {
      line.classList.toggle("hidden", !isShown);
    }
  });
}
