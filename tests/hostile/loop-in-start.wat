;; Computes for ever in its start function, before `run` is called.
;; in: module
;; ends: timed_out
(module
  (func $init (loop $again (br $again)))
  (start $init)
  (func (export "_start")))
