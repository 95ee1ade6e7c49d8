// Rows of names and values: a button adds an empty row.

export function setUpPairs(root) {
  for (const button of root.querySelectorAll("[data-add-pair]")) {
    button.addEventListener("click", () => {
      const list = button.closest("[data-pairs]").querySelector(".pair-list");
      const row = list.lastElementChild.cloneNode(true);
      for (const [index, input] of [...row.querySelectorAll("input")].entries()) {
        input.value = "";
        input.setAttribute("aria-label", `${index ? "Value" : "Name"} ${list.children.length + 1}`);
      }
      list.append(row);
      row.querySelector("input").focus();
    });
  }
}
