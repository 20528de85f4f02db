;; Calls itself for ever with a thousand locals each time.
;; in: command
;; ends: over_limit stack_bytes
(func $down (param i64) (result i64) (local {each 1000: i64})
  (local.set 1 (i64.add (local.get 0) (i64.const 1)))
  (i64.add (call $down (local.get 1)) (local.get 1)))
(func (export "_start") (drop (call $down (i64.const 0))))
