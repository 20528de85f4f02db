;; Accepts a connection from a socket that it was never given.
;; in: command
;; ends: failed
(func (export "_start") (call $exit (call $accept (i32.const 3) (i32.const 0) (i32.const 64))))
