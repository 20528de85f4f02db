;; Is nothing in particular.
;; in: bytes
;; ends: rejected
de ad be ef 00 11 22 33
