/* Everything that needs scripts; without them the page is read as it stands. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  Basics.keepState();
  RecordTable.start(data.commands);
  PartBars.start(data);
  if (data.traces.length) WhatIf.start(data);
  document.documentElement.dataset.ready = "true";
})();
