;; Sleeps for an hour in a call of the host. It touches one page of its memory.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One subscription at 0: to the monotonic clock (1), for 3,600,000,000,000 ns from now.
  (data (i32.const 16) "\01\00\00\00")
  (data (i32.const 24) "\00\a0\b8\30\46\03\00\00")
  (func (export "_start")
    (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))))
