;; Computes for ever before it was even called.
;; in: module
;; ends: timed_out
(module
  (func $init (loop $again (br $again)))
  (start $init)
  (func (export "_start")))
