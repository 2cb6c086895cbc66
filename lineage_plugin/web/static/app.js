// What gradio does not do: fields that offer names, copy buttons, the address of the page, and what is read out.
(() => {
  const PAUSE = 4000; // milliseconds between two announcements of how far a question is
  let told = "", at = 0, later = 0, shown = "", here = "", scrolled = null, held = null;
  const read = new WeakMap(); // of each place of an answer, what was last brought into view

  const say = (text, now) => {
    const region = document.getElementById("lineage-said");
    clearTimeout(later);
    if (!region || text === told) return;
    const rest = now ? 0 : Math.max(0, at + PAUSE - Date.now());
    later = setTimeout(() => { told = text; at = Date.now(); region.textContent = text; }, rest);
  };

  // The address follows the question, so that it can be passed on as it stands; a Space is in a frame of the Hub.
  const follow = (query) => {
    if (query === shown) return;
    shown = query;
    const asked = new URLSearchParams(query);
    const theme = new URLSearchParams(location.search).get("__theme");
    if (theme) asked.set("__theme", theme);
    const next = query + (theme ? `&__theme=${encodeURIComponent(theme)}` : "");
    // Back leads to the question before; the first one takes the place of the page without any.
    if (here && next !== here) history.pushState(null, "", next);
    else history.replaceState(history.state, "", next);
    here = next;
    if (window.parent !== window) window.parent.postMessage({ queryString: query.slice(1) }, "https://huggingface.co");
  };

  addEventListener("popstate", () => { if (here && location.search !== here) location.reload(); });

  const visible = (element) => element.checkVisibility ? element.checkVisibility() : element.offsetParent !== null;

  const look = () => {
    for (const list of document.querySelectorAll("datalist[data-for]")) {
      const field = document.querySelector(`#${list.dataset.for} input`);
      if (field && field.getAttribute("list") !== list.id) field.setAttribute("list", list.id);
    }
    for (const text of document.querySelectorAll("pre[data-here]")) {
      const query = text.dataset.here;
      text.textContent = text.textContent.replace(`](${query})`, `](${new URL(query, location.href).href})`);
      delete text.dataset.here;
    }
    for (const part of document.querySelectorAll(".lineage-running, .lineage-answer, .lineage-failed")) {
      if (!visible(part)) continue;
      if (part.dataset.query) follow(part.dataset.query);
      if (part.dataset.said) say(part.dataset.said, part.matches(".lineage-answer"));
      const place = part.closest("[id$=\"-place\"]");
      // The button that was pressed is gone then: whoever uses keys goes on at the one in its place, then at the answer.
      if (document.activeElement === document.body && place !== held) {
        const cancel = part.matches(".lineage-running") && document.getElementById(place.id.replace("place", "cancel"));
        if (cancel && visible(cancel)) { cancel.focus({ preventScroll: true }); held = place; }
      } else if (document.activeElement === document.body && place === held && !part.matches(".lineage-running")) {
        part.focus({ preventScroll: true });
        held = null;
      }
      if (part.matches(".lineage-running")) {
        if (scrolled !== place) {
          scrolled = place;
          const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
          part.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
        }
      } else {
        scrolled = null;
        if (read.get(place) !== part) {
          read.set(place, part);
          const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
          part.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
        }
      }
    }
  };

  const copied = async (button, text) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // where the page may not write to the clipboard itself
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const before = button.dataset.label || button.textContent;
    button.dataset.label = before;
    button.textContent = done ? "Copied" : "Not copied: select the text";
    say(button.textContent, true);
    setTimeout(() => { button.textContent = before; told = ""; }, 2500);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button[data-copy], button[data-copy-link]");
    if (!button) return;
    const from = button.dataset.copy && document.getElementById(button.dataset.copy);
    copied(button, from ? from.textContent : new URL(button.dataset.copyLink, location.href).href);
  });

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; look(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
