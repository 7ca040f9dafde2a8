// What the theme leaves out for those who read by keyboard or ear: what scrolls can be reached, headings have a level,
// and lists are lists.
addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.ariaLevel = "2";
  // The lines of a long signature are written as definitions of nothing.
  for (const line of document.querySelectorAll("dt dl, dt dd")) line.role = "presentation";
  for (const wide of document.querySelectorAll("pre, .table-wrapper")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
});
