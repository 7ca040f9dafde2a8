// The colours that were chosen here before, set before anything is painted. No module: those run too late.
"use strict";

const THEMES = ["auto", "light", "dark"];

function readTheme() {
  try {
    return THEMES.includes(localStorage.theme) ? localStorage.theme : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.theme = theme;
  } catch { /* then it is for now */ }
  document.dispatchEvent(new Event("theme"));
}

document.documentElement.dataset.theme = readTheme();

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const said = { auto: "as the system", light: "light", dark: "dark" };
  const show = () => {
    const theme = document.documentElement.dataset.theme;
    button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    button.setAttribute("aria-label", `${button.textContent}: colours are ${said[theme]}`);
  };
  button.addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
    show();
  });
  show();
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
