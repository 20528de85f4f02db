;; Asks for its task and attempt again and again.
;; in: task
;; ends: timed_out
(loop $again (global.set $free (i32.const 4096)) (call $context (i32.const 512)) (br $again)) unreachable
