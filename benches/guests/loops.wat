;; Runs small loops. It counts the steps from each number to one by the Collatz rule.
(module
  (memory (export "memory") 1)
  (global $sum (mut i64) (i64.const 0))
  (func (export "_start") (local $from i64) (local $n i64)
    (local.set $from (i64.const 300000))
    (loop $each
      (local.set $n (local.get $from))
      (loop $step
        (local.set $n
          (if (result i64) (i64.eqz (i64.and (local.get $n) (i64.const 1)))
            (then (i64.shr_u (local.get $n) (i64.const 1)))
            (else (i64.add (i64.mul (local.get $n) (i64.const 3)) (i64.const 1)))))
        (global.set $sum (i64.add (global.get $sum) (i64.const 1)))
        (br_if $step (i64.gt_u (local.get $n) (i64.const 1))))
      (local.set $from (i64.sub (local.get $from) (i64.const 1)))
      (br_if $each (i64.gt_u (local.get $from) (i64.const 1))))))
