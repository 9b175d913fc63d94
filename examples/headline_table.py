"""Results in a notebook: the table of the README, and one figure, from stored records.

python examples/headline_table.py [FOLDER]        default: results/reference/demo
"""

import sys

import matplotlib.pyplot as plt

import permbench

folder = sys.argv[1] if len(sys.argv) > 1 else "results/reference/demo"
runs = permbench.load(folder)
argmax = runs[(runs["experiment.name"] == "argmax") & (runs["status"] == "ok")]
table = argmax.pivot_table(index="experiment.n", columns="system.name", values="online.median_ns")
print((table / 1e6).round(1).to_string(na_rep="-"), "ms online", sep="\n")

axes = (table / 1e6).plot(logx=True, logy=True, marker="o")
axes.set(title="Argmax of n values", xlabel="n", ylabel="online time, ms")
plt.savefig("argmax.png", dpi=150)
print("argmax.png")
