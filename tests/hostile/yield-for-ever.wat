;; Yields for ever, and continues at once each time.
;; in: command
;; ends: timed_out
(func (export "_start") (loop $again (drop (call $yield)) (br $again)))
