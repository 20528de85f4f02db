;; Claims more locals than can be counted.
;; in: bytes
;; ends: rejected locals exceed maximum
00 61 73 6d 01 00 00 00 01 04 01 60 00 00 03 02 01 00 07 0a 01 06 5f 73 74 61 72 74 00 00 0a 0e 01 0c 02 ff ff ff ff 0f 7f ff ff ff ff 0f 7f 0b
