;; Computes for longer than it may, in less time than it may take.
;; in: command
;; ends: over_limit cpu_ms
;; limits: {"cpu_ms": 60, "timeout_ms": 5000}
(func (export "_start") (loop $again (br $again)))
