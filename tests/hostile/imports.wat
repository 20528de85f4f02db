;; Has more imports than any real program.
;; in: module
;; ends: rejected 20001 imports
(module
  {each 20001: (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))}
  (func (export "_start")))
