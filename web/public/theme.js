// Runs before the first paint, so that a chosen theme does not flash the other one. A file, because inline scripts are forbidden.
try {
  const theme = localStorage.getItem("theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's theme it is.
}
