// What of the above a page has.

document.querySelectorAll(".wide, .plot, .equation").forEach(scrollable);
document.querySelectorAll("table").forEach((table) => {
  if (table.tHead && table.tBodies[0]?.rows.length >= LEAST) sortable(table);
});

// Points of pictures, a menu of axes over the map, and a bar of memories under each picture that has points.
const withPoints = (svgs, data) => {
  const choice = data.memory.length ? chooser(data) : null;
  svgs.forEach((svg) => {
    const isMap = data.axes.length > 0 && svg.querySelector('[id^="landscape-"]');
    if (!nameable(svg, data) && !isMap) return;
    const bar = choice?.bar() ?? null;
    if (bar) svg.closest(".plot").after(bar);
    if (isMap) axesMenu(svg, data, choice, bar);
  });
  return choice;
};

document.body.append(ring, tip);
const svgs = [...document.querySelectorAll("figure svg")];
const told = { points: dataOf("points"), matrices: dataOf("matrices") };
svgs.forEach(playable);
if (told.matrices) svgs.forEach((svg) => matrices(svg, told.matrices));
const choice = told.points && withPoints(svgs, told.points);
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  show(null);
  choice?.clear();
});
addEventListener("scroll", place, { capture: true, passive: true });
addEventListener("resize", place);
