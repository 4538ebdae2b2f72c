// Runs within a copy of a report: measures what a reader would see, and tells the page around it.
// INDEX is the number of the copy, OPEN whether its tables are to be opened, AXE whether axe-core
// has been loaded before.
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
let alerts = 0;
window.alert = () => { alerts += 1; };

function overlapping(elements) {
  const boxes = elements.map((e) => [e.textContent, e.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 3) found.push(`${one} / ${other}`);
  }));
  return found;
}

function ownText(element) {
  return [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
}

function widthOfPage() {
  return document.documentElement.scrollWidth - innerWidth;
}

async function measure() {
  const result = { overflow: widthOfPage() };
  const verdict = document.querySelector("#verdict").getBoundingClientRect();
  result.verdictBottom = verdict.bottom;
  result.height = innerHeight;
  result.overlaps = [...document.querySelectorAll("figure")].flatMap((figure) =>
    [...figure.querySelectorAll(".drawing")].flatMap((d) => overlapping([...d.querySelectorAll("text")]))
      .concat(overlapping([...figure.querySelectorAll(".label")])));
  if (OPEN) {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    result.overflowOpen = widthOfPage();
    const shown = [...document.querySelectorAll("body *")].filter(ownText);
    result.smallestType = Math.min(...shown.map((e) => parseFloat(getComputedStyle(e).fontSize)));
  }
  result.withoutWords = [...document.querySelectorAll("figure")]
    .filter((f) => !(f.querySelector('[role="img"]')?.getAttribute("aria-label") ||
                     f.querySelector("img")?.alt)).length;
  result.empty = [...document.querySelectorAll(".picture .drawing")]
    .filter((d) => d.getBoundingClientRect().height < 10 || !d.childElementCount).length;
  // The ellipsis of a name that is cut hangs beyond the end of a line aligned to the right.
  result.cutWithoutRoom = [...document.querySelectorAll(".row .name")].filter((e) => {
    const style = getComputedStyle(e);
    return e.scrollHeight > e.clientHeight && style.textAlign === "right" &&
           parseFloat(style.paddingRight) < parseFloat(style.fontSize);
  }).map((e) => e.textContent);
  result.names = [...document.querySelectorAll("#groups tbody th")].map((e) => e.textContent);
  result.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  if (AXE) {
    const found = await axe.run();
    result.axe = found.violations.map((v) => `${v.impact} ${v.id}: ${v.nodes[0].html.slice(0, 200)}`);
  }
  return { ...result, index: INDEX, errors, alerts };
}

addEventListener("load", async () => parent.postMessage(await measure(), "*"));
