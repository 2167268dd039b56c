// The data along other axes than those of the map: features, principal axes, directions that separate the memories.

const SHEET = { width: 720, height: 530, left: 92, right: 14, top: 12, bottom: 62 };
const FINEST = 4095; // positions are whole numbers from 0 to this, from one end of the axis to the other

const along = (place) => SHEET.left + (place / FINEST) * (SHEET.width - SHEET.left - SHEET.right);
const upwards = (place) => SHEET.height - SHEET.bottom - (place / FINEST) * (SHEET.height - SHEET.top - SHEET.bottom);

// About five round numbers between the ends of an axis, each with its place.
const ticksOf = ({ low, high }) => {
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, tick) => Number(((first + tick) * step).toPrecision(12)))
    .map((value) => ({ text: String(value).replace("-", "−"), place: (FINEST * (value - low)) / (high - low) }));
};

const written = (text, x, y, attributes = {}) => drawn("text", { x, y, "text-anchor": "middle", ...attributes }, text);

const framed = (across, up) => {
  const [bottom, left] = [upwards(0), along(0)];
  const frame = { x: left, y: upwards(FINEST), width: along(FINEST) - left, height: bottom - upwards(FINEST) };
  const [middle, centre] = [along(FINEST / 2), upwards(FINEST / 2)];
  const turned = (x) => ({ transform: `rotate(-90 ${x} ${centre})` });
  return drawn("g", { class: "axes" },
    drawn("rect", { ...frame, class: "frame" }),
    ...ticksOf(across).map(({ text, place }) => written(text, along(place), bottom + 18)),
    ...ticksOf(up).map(({ text, place }) => written(text, left - 7, upwards(place) + 4, { "text-anchor": "end" })),
    written(across.title, middle, SHEET.height - 24),
    written(across.loadings, middle, SHEET.height - 7),
    written(up.title, 16, centre, turned(16)),
    written(up.loadings, 33, centre, turned(33)));
};

const scatterOf = (data, across, up) => {
  const count = data.row.length;
  const size = count < 400 ? 3.4 : count < 1500 ? 2.6 : 1.9;
  const colourOf = (place) => (data.memory.length ? data.colours[data.memory[place]] : "var(--muted)");
  const dots = data.row.map((_, place) => drawn("circle", {
    cx: along(across.points[place]), cy: upwards(up.points[place]), r: size, fill: colourOf(place), "fill-opacity": 0.75,
  }));
  const discs = data.discs.flatMap(({ memory, ink }, place) => {
    const [x, y] = [along(across.memories[place]), upwards(up.memories[place])];
    const number = written(data.names[memory], x, y + 3.7, { fill: ink, class: "number" });
    return [drawn("circle", { cx: x, cy: y, r: 9, fill: data.colours[memory], class: "disc" }), number];
  });
  const attributes = {
    class: "scatter", viewBox: `0 0 ${SHEET.width} ${SHEET.height}`, style: "--inches:7.2", role: "group",
    "aria-label": `The data by ${across.name} and ${up.name}`,
  };
  return drawn("svg", attributes, framed(across, up), drawn("g", { id: "chosen-data" }, ...dots), ...discs);
};

// A menu of the axes above a map; the first two of the data's axes are those of the map itself.
const axesMenu = (svg, data, choice, bar) => {
  const plot = svg.closest(".plot");
  const hasPoints = svg.querySelector("[aria-label]") !== null; // or they are too many, and drawn as pixels
  let scatter = null;
  let named = null;
  const draw = () => {
    const [across, up] = menus.map((menu) => data.axes[Number(menu.value)]);
    if (scatter) scatter.remove();
    if (named) pictures.splice(pictures.indexOf(named), 1);
    const mapped = across === data.axes[0] && up === data.axes[1];
    scatter = mapped ? null : scatterOf(data, across, up);
    if (scatter) plot.append(scatter);
    named = scatter && nameable(scatter, data);
    plot.classList.toggle("other", !mapped);
    note.hidden = back.hidden = mapped;
    if (bar && !hasPoints) bar.hidden = mapped;
    show(null);
    choice?.apply();
  };
  const menus = ["across", "up"].map((direction, which) => {
    const menu = make("select", { name: direction }, ...groupsOf(data.axes));
    menu.value = String(which);
    menu.addEventListener("change", draw);
    return menu;
  });
  const back = button("back to the map", () => {
    menus.forEach((menu, which) => (menu.value = String(which)));
    draw();
    menus[0].focus();
  }, { hidden: "" });
  const note = make("span", { hidden: "" }, "The energy and recall belong to the map.");
  const labels = menus.map((menu) => make("label", {}, `${menu.name} `, menu));
  plot.before(make("div", { class: "bar menu", role: "group", "aria-label": "Axes of the picture" },
    "Axes:", ...labels, back, note));
  if (bar) bar.hidden = !hasPoints;
};

const groupsOf = (axes) =>
  [...new Set(axes.map((axis) => axis.group))].map((group) =>
    make("optgroup", { label: group }, ...axes.flatMap((axis, place) =>
      (axis.group === group ? [make("option", { value: place }, axis.name)] : []))));
