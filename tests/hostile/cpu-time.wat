;; Uses more processor time than its limit, before its time limit.
;; in: command
;; ends: over_limit cpu_ms
;; limits: {"cpu_ms": 60, "timeout_ms": 5000}
(func (export "_start") (loop $again (br $again)))
