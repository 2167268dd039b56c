// Recall as it happens: the paths of a landscape from their queries to where they end, played or step by step.

const PACE = 3; // steps a second
const STILL = 0.3; // a step shorter than this, in units of the picture, does not show

const verticesOf = (path) =>
  [...path.getAttribute("d").matchAll(/[ML]\s*(-?[\d.]+)\s+(-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);

const lastMove = (vertices) => {
  let last = 0;
  for (let step = 1; step < vertices.length; step += 1) {
    const [[x, y], [u, v]] = [vertices[step - 1], vertices[step]];
    if (Math.hypot(u - x, v - y) > STILL) last = step;
  }
  return last;
};

// Where a path is at a time between two steps.
const positionAt = (vertices, time) => {
  const before = Math.min(Math.floor(time), vertices.length - 1);
  const [[x, y], [u, v]] = [vertices[before], vertices[Math.min(before + 1, vertices.length - 1)]];
  const share = time - before;
  return share > 0 && share < 1 ? [x + share * (u - x), y + share * (v - y)] : [x, y];
};

const pathIn = (svg, line) => {
  const shapes = [line, svg.getElementById(`${line.id}-halo`)].map((group) => group.querySelector("path"));
  const dots = [...(svg.getElementById(`${line.id}-steps`)?.querySelectorAll("use") ?? [])];
  const vertices = verticesOf(shapes[0]);
  const whole = shapes[0].getAttribute("d");
  const runner = drawn("circle", { r: 3.2, class: "runner", visibility: "hidden" });
  line.parentNode.append(runner);
  const show = (time, all) => {
    const [x, y] = positionAt(vertices, time);
    const passed = [...vertices.slice(0, Math.floor(time) + 1), [x, y]];
    const part = `M ${passed.map((at) => at.join(" ")).join(" L ")}`;
    shapes.forEach((shape) => shape.setAttribute("d", all ? whole : part));
    dots.forEach((dot, place) => dot.setAttribute("visibility", all || place + 1 <= time ? "visible" : "hidden"));
    runner.setAttribute("visibility", all ? "hidden" : "visible");
    runner.setAttribute("cx", x);
    runner.setAttribute("cy", y);
  };
  return { show, last: lastMove(vertices) };
};

const playable = (svg) => {
  const lines = [...svg.querySelectorAll('[id*="-recall-"]')].filter((group) => /-recall-\d+$/.test(group.id));
  const paths = lines.filter((line) => line.querySelector("path")).map((line) => pathIn(svg, line));
  const last = Math.max(0, ...paths.map((path) => path.last));
  if (!last) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let time = last;
  let begun = null; // when the film would have begun, in ms; null while it stands

  const slider = make("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "Step of recall" });
  const label = make("span", {});
  const film = button("", () => (begun === null ? play() : stop()));
  const show = (now) => {
    time = Math.min(now, last);
    paths.forEach((path) => path.show(time, time === last));
    slider.value = String(Math.floor(time));
    label.textContent = `step ${Math.floor(time)} of ${last}`;
    film.textContent = begun === null ? "▶ play recall" : "⏸ pause";
  };
  const tick = (now) => {
    if (begun === null) return;
    const next = ((now - begun) / 1000) * PACE;
    if (next >= last) begun = null;
    show(next);
    requestAnimationFrame(tick);
  };
  const play = () => {
    begun = performance.now() - (time < last ? time / PACE : 0) * 1000;
    requestAnimationFrame(tick);
  };
  const stop = () => {
    begun = null;
    show(time);
  };
  const quiet = () => {
    film.hidden = still.matches; // the slider stays: what moves then, the reader moves
    stop();
  };
  slider.addEventListener("input", () => {
    begun = null;
    show(Number(slider.value));
  });
  still.addEventListener("change", quiet);
  svg.closest(".plot").after(
    make("div", { class: "bar film", role: "group", "aria-label": "Recall, step by step" }, film, slider, label));
  quiet();
};
