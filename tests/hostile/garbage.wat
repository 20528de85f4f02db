;; Consists of arbitrary bytes.
;; in: bytes
;; ends: rejected not a Wasm file
de ad be ef 00 11 22 33
