;; Calls through a table for ever, without a loop of its own.
;; in: command
;; ends: timed_out
(type $step (func (result i32)))
(table funcref (elem $next))
(func $next (result i32) (i32.const 0))
(func (export "_start")
  (loop $again (br_if $again (i32.eqz (call_indirect (type $step) (i32.const 0))))))
