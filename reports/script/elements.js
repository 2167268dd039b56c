// Elements that the script makes, and what is wider than its place. The files of this folder are joined, in the order
// that reports/page.py gives, to the one script of a page. The page is complete without it, and it loads nothing.

const filled = (element, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

const make = (name, attributes, ...children) => filled(document.createElement(name), attributes, children);

const ofPictures = document.createRange().createContextualFragment("<svg></svg>").firstChild.namespaceURI;

const drawn = (name, attributes, ...children) =>
  filled(document.createElementNS(ofPictures, name), attributes, children);

const button = (text, action, attributes = {}) => {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", action);
  return element;
};

// The data of an element that is never run; null where the page has none.
const dataOf = (name) => JSON.parse(document.getElementById(name)?.textContent ?? "null");

// What is wider than its place says so, and takes the focus, so that arrow keys scroll it; the rest does neither.
const scrollable = (part) => {
  const look = () => {
    const cut = part.scrollWidth > part.clientWidth + 1;
    part.classList.toggle("cut", cut);
    part.classList.toggle("whole", !cut);
    if (cut) part.setAttribute("tabindex", "0");
    else part.removeAttribute("tabindex");
  };
  new ResizeObserver(look).observe(part);
};
