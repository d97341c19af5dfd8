# From ginkgo's report to "N of M" and a line on each failure.
def line: gsub("\\s+"; " ") | if length > 300 then .[:300] + "…" else . end;
[.[].SpecReports[]] as $all
| [$all[] | select(.LeafNodeType == "It" and (.State == "skipped" or .State == "pending" | not))] as $run
| ([$all[] | select(.LeafNodeType != "It" and .State != "passed" and .Failure.Message != null)
   | "suite: \(.LeafNodeType): \(.Failure.Message | line)"][]),
  ($run | map(select(.State != "passed")) | sort_by([.ContainerHierarchyTexts, .LeafNodeText])[]
   | "FAILED \((.ContainerHierarchyTexts + [.LeafNodeText]) | join(" "))\n       \(.State): \(.Failure.Message // "" | line)"),
  "\($run | map(select(.State == "passed")) | length) of \($run | length)"
