"""The report of runs: what is plotted (pictures), how it is drawn (svg, png), and the page around it."""
