// What is around the views: tabs, light and dark, the list of keys.

import { byId, on, openPeeking } from "./dom.js";
import { state } from "./state.js";

const TABS = ["portrait", "edit", "inside"];

/**
 * @param {(tab: string) => void} onTab is told the tab that was opened
 * @returns {(tab: string) => void} shows a tab
 */
export function openFrame(onTab) {
  const show = (name) => {
    state.tab = name;
    for (const tab of TABS) {
      byId(tab).hidden = tab !== name;
      byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
      byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    }
    onTab(name);
  };
  TABS.forEach((name, k) => {
    on(`tab-${name}`, "click", () => show(name));
    on(`tab-${name}`, "keydown", (event) => {
      const to = { ArrowRight: k + 1, ArrowLeft: k + 2, Home: 0, End: 2 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(TABS[to % TABS.length]);
      byId(`tab-${state.tab}`).focus();
    });
  });
  for (const part of ["stage", "controls"]) byId(part).hidden = false;
  openTheme();
  openKeys();
  openPeeking();
  return show;
}

function openTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = document.documentElement.dataset;
  const isDark = () => (chosen.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = () => (byId("theme").textContent = isDark() ? "Light" : "Dark");
  on("theme", "click", () => {
    chosen.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  name();
}

function openKeys() {
  const keys = byId("keys");
  on("keys-open", "click", () => keys.showModal());
  on("keys-close", "click", () => keys.close());
  document.addEventListener("keydown", (event) => {
    const isTyping = /** @type {HTMLElement} */ (event.target).matches("input, textarea, select");
    if (event.key === "?" && !isTyping && !keys.open) keys.showModal();
  });
}
