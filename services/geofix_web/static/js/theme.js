// Runs before the first paint, so that no page flashes in the wrong theme.
(function () {
  const saved = (function () { try { return localStorage.getItem("geofix-theme"); } catch { return null; } })();
  const dark = saved ? saved === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
