// Matrices of pairs of data that can be enlarged: a group by a click, a block by dragging, both by keyboard.
//
// Over the image of a matrix lies a lens: the same image in a picture of its own, whose units are rows and columns. What
// of it is seen is a block { left, top, right, bottom }, with the last row and column included.

const DRAGGED = 5; // pixels that make a press of the button a drag

const blockOf = (one, other) => ({
  left: Math.min(one.column, other.column), right: Math.max(one.column, other.column),
  top: Math.min(one.row, other.row), bottom: Math.max(one.row, other.row),
});

const sameBlock = (one, other) => ["left", "top", "right", "bottom"].every((side) => one[side] === other[side]);

const rectangle = (block) => ({
  x: block.left, y: block.top, width: block.right - block.left + 1, height: block.bottom - block.top + 1,
});

const bounded = (value, low, high) => Math.max(low, Math.min(high, value));

// First and last place of the group that a place belongs to; ``cuts`` are where groups begin, but for the first.
const groupAt = (place, { cuts, row }) => {
  const ends = [0, ...cuts, row.length];
  const group = ends.findIndex((end) => end > place);
  return [ends[group - 1], ends[group] - 1];
};

const pairInWords = (data, bytes, { row, column }) => {
  const said = (place) => `row ${data.row[place]}${data.label.length ? ` (memory ${data.label[place]})` : ""}`;
  return `${said(row)} and ${said(column)}: ${bytes.charCodeAt(row * data.row.length + column)}\u202f%`;
};

// The lens over the image of a matrix, which was drawn in the units of its picture.
const lensOver = (image, data) => {
  const box = image.getBBox();
  const corner = (x, y) => new DOMPoint(x, y).matrixTransform(
    image.ownerSVGElement.getScreenCTM().inverse().multiply(image.getScreenCTM()));
  const [one, other] = [corner(box.x, box.y), corner(box.x + box.width, box.y + box.height)];
  const size = data.row.length;
  const same = image.cloneNode();
  const flipped = one.y > other.y ? `translate(0 ${size}) scale(1 -1)` : "";
  for (const name of ["id", "x", "y", "clip-path"]) same.removeAttribute(name);
  filled(same, { width: size, height: size, transform: flipped, preserveAspectRatio: "none" }, []);
  const lines = data.lines.map((cut) => drawn("path", { class: "cut-line", d: `M 0 ${cut} H ${size} M ${cut} 0 V ${size}` }));
  const attributes = {
    class: "lens", x: Math.min(one.x, other.x), y: Math.min(one.y, other.y),
    width: Math.abs(other.x - one.x), height: Math.abs(other.y - one.y), preserveAspectRatio: "none", tabindex: "0",
    role: "group", "aria-label": `Pairs of ${size} rows. Arrow keys go from pair to pair, with Shift they select; ` +
      "Enter enlarges, Escape goes back.",
  };
  const lens = drawn("svg", attributes, same, ...lines);
  image.ownerSVGElement.append(lens);
  return lens;
};

const enlargeable = (group, data) => {
  const bytes = atob(data.percent[group.id.replace(/.*-matrix-/, "")]);
  const size = data.row.length;
  const whole = { left: 0, top: 0, right: size - 1, bottom: size - 1 };
  const lens = lensOver(group.querySelector("image"), data);
  const cell = drawn("rect", { class: "cell", visibility: "hidden", role: "img", "aria-label": "" });
  const selection = drawn("rect", { class: "selection", visibility: "hidden" });
  const edge = drawn("rect", { class: "edge" });
  lens.append(selection, cell, edge);
  let seen = whole;
  let at = { row: 0, column: 0 };
  let anchor = null; // where a selection began
  let pressed = null; // where the button of the mouse went down

  const look = (block) => {
    seen = block;
    const { x, y, width, height } = rectangle(block);
    lens.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    filled(edge, { x, y, width, height }, []);
    group.classList.toggle("enlarged", !sameBlock(block, whole));
    back.hidden = sameBlock(block, whole);
    select(null);
    if (document.activeElement === lens) point(at);
  };
  const point = (place) => {
    at = {
      row: bounded(place.row, seen.top, seen.bottom), column: bounded(place.column, seen.left, seen.right),
    };
    filled(cell, { ...rectangle(blockOf(at, at)), "aria-label": pairInWords(data, bytes, at), visibility: "visible" }, []);
    show(cell);
  };
  const leave = () => {
    cell.setAttribute("visibility", "hidden");
    show(null);
  };
  const select = (from) => {
    anchor = from;
    const block = from && blockOf(from, at);
    selection.setAttribute("visibility", block ? "visible" : "hidden");
    if (block) filled(selection, rectangle(block), []);
  };
  const groupBlock = () => {
    const [[top, bottom], [left, right]] = [groupAt(at.row, data), groupAt(at.column, data)];
    return { left, top, right, bottom };
  };
  const enlarge = () => look(anchor && !sameBlock(blockOf(anchor, at), blockOf(at, at)) ? blockOf(anchor, at) : groupBlock());
  const placeOf = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(lens.getScreenCTM().inverse());
    return { column: Math.floor(at.x), row: Math.floor(at.y) };
  };

  const back = button("whole matrix", () => {
    look(whole);
    lens.focus();
  }, { hidden: "" });
  const moved = (event) => Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > DRAGGED;
  lens.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button) return;
    pressed = event;
    lens.setPointerCapture(event.pointerId);
  });
  lens.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    point(placeOf(event));
    if (pressed && moved(event)) select(anchor ?? placeOf(pressed));
  });
  lens.addEventListener("pointerup", () => (pressed = null));
  lens.addEventListener("pointerleave", leave);
  lens.addEventListener("click", (event) => {
    point(placeOf(event));
    enlarge();
  });
  lens.addEventListener("focus", () => lens.matches(":focus-visible") && point(at));
  lens.addEventListener("blur", leave);
  lens.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Enter") enlarge();
    else if (step) {
      const stride = Math.max(1, Math.round((seen.right - seen.left + 1) / 60)); // a whole matrix is crossed in 60 steps
      const from = event.shiftKey ? anchor ?? at : null;
      point({ row: at.row + stride * step[0], column: at.column + stride * step[1] });
      select(from);
    } else return;
    event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") look(whole);
  });
  look(whole);
  return back;
};

const matrices = (svg, data) => {
  const groups = [...svg.querySelectorAll('[id*="-matrix-"]')].filter((group) => group.querySelector("image"));
  if (!groups.length) return;
  const hint = "Click a group, or drag over a block, to enlarge it.";
  svg.setAttribute("role", "group");
  svg.closest(".plot").after(make("div", { class: "bar" }, hint, ...groups.map((group) => enlargeable(group, data))));
};
