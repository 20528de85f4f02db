;; Calls itself for ever.
;; in: command
;; ends: over_limit stack_bytes
(func $down (call $down) (call $down))
(func (export "_start") (call $down))
