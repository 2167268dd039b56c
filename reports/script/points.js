// Points that say which row of the data they are: to the mouse, to a finger, and to the keyboard.

const tip = make("div", { class: "tip", role: "status", hidden: "" });
const ring = make("div", { class: "ring", hidden: "" });
let current = null; // the point that both belong to

const put = (element, left, top) => {
  element.style.left = `${left + scrollX}px`;
  element.style.top = `${top + scrollY}px`;
};

const place = () => {
  if (!current) return;
  const box = current.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  const frame = current.closest(".plot").getBoundingClientRect(); // which may be scrolled sideways
  tip.hidden = ring.hidden = x < frame.left || x > frame.right;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const above = y - tip.offsetHeight - 14;
  put(tip, Math.max(8, Math.min(x + 12, room)), above > 4 ? above : y + 14);
  put(ring, x, y);
};

const show = (point) => {
  current = point;
  tip.hidden = ring.hidden = !point;
  tip.textContent = point ? point.getAttribute("aria-label") : "";
  place();
};

const words = (data, place) => {
  const memory = data.memory.length ? `, memory ${data.names[data.memory[place]]}` : "";
  const sure = data.confidence.length ? `, confidence ${data.confidence[place]}` : "";
  return `row ${data.row[place]}${memory}${sure}`;
};

const pictures = []; // the points of each picture that has them, in the order of the data

// Makes the shapes of a picture points, where they are as many as the data that the script was told of.
const nameable = (svg, data) => {
  const points = [...svg.querySelectorAll('[id$="-data"],[id$="-data-behind"]')]
    .flatMap((group) => [...group.querySelectorAll("use,path,circle")])
    .filter((shape) => !shape.closest("defs"));
  if (points.length !== data.row.length) return null;
  points.forEach((point, place) => {
    point.setAttribute("role", "img");
    point.setAttribute("aria-label", words(data, place));
    point.setAttribute("tabindex", place ? "-1" : "0");
    point.addEventListener("focus", () => show(point));
    point.addEventListener("blur", () => show(null));
  });
  svg.setAttribute("role", "group");
  hovering(svg, points);
  walking(svg, points);
  pictures.push(points);
  return points;
};

// Places of points as shares of their picture's box: these survive zoom and scrolling.
const centresOf = (svg, points) => {
  const frame = svg.getBoundingClientRect();
  return points.map((point) => {
    const box = point.getBoundingClientRect();
    return [
      (box.left + box.width / 2 - frame.left) / frame.width, (box.top + box.height / 2 - frame.top) / frame.height];
  });
};

const hovering = (svg, points) => {
  let centres = null;
  const nearest = (event, reach) => {
    centres ??= centresOf(svg, points);
    const frame = svg.getBoundingClientRect();
    let best = null;
    let least = reach;
    points.forEach((point, place) => {
      if (point.classList.contains("away")) return;
      const [x, y] = centres[place];
      const far = Math.hypot(frame.left + x * frame.width - event.clientX, frame.top + y * frame.height - event.clientY);
      if (far < least) [best, least] = [point, far];
    });
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") show(nearest(event, 12));
  });
  svg.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") show(null);
  });
  svg.addEventListener("click", (event) => show(nearest(event, 24))); // by touch, a finger is wide
};

// One stop of the tab key for all points; arrows go to the neighbour to that side.
const walking = (svg, points) => {
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 1], ArrowUp: [1, -1] }[event.key];
    const from = points.indexOf(event.target);
    if (!step || from < 0) return;
    event.preventDefault();
    const centres = centresOf(svg, points);
    const [axis, sign] = step;
    const shown = points.map((_, place) => place).filter((place) => !points[place].classList.contains("away"));
    shown.sort((a, b) => centres[a][axis] - centres[b][axis] || a - b);
    const goal = points[shown[shown.indexOf(from) + sign]];
    if (!goal) return;
    points[from].setAttribute("tabindex", "-1");
    goal.setAttribute("tabindex", "0");
    goal.focus();
  });
};
