;; Computes for ever.
;; in: command
;; ends: timed_out
(func (export "_start") (loop $again (br $again)))
