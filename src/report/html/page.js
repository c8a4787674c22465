
"use strict";
(() => {
  const box = document.getElementById("search");
  if (!box) return;
  const rows = [...document.querySelectorAll("#failed .rows > li")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const shown = document.getElementById("shown");
  const search = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      if (!row.hidden) found += 1;
    });
    shown.textContent = words.length ? found + " of " + rows.length : "";
  };
  const fromAddress = () => {
    const wanted = /^#search=(.+)$/.exec(location.hash);
    if (!wanted) return;
    try {
      box.value = decodeURIComponent(wanted[1]);
    } catch {
      return;
    }
    search();
    document.getElementById("failed").scrollIntoView();
  };
  box.addEventListener("input", search);
  addEventListener("hashchange", fromAddress);
  document.getElementById("tools").hidden = false;
  fromAddress();
})();
