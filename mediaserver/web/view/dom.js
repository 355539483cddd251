// Why: the few things that every part of the page builds: elements, icons and the box that shows a Problem. Text goes in
// as text, never as markup, so that no name from the network can become code.

/** An element with properties, attributes (names with a dash) and children. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  return node;
}

/** An icon of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(svg.namespaceURI, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Show a Problem in an alert box, with an optional button; null hides it. */
export function showProblem(box, problem, action) {
  box.hidden = !problem;
  if (!problem) return box.replaceChildren();
  const text = element("div", {}, element("strong", { textContent: problem.title }));
  if (problem.detail) text.append(element("p", { textContent: problem.detail }));
  box.replaceChildren(text);
  if (action) box.append(element("button", { type: "button", textContent: action.label, onclick: action.run }));
}
