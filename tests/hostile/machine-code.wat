;; Is an object file, as compiled modules are, which would run unchecked.
;; in: bytes
;; ends: rejected native machine code
7f 45 4c 46 02 01 01 00 00 00 00 00 00 00 00 00 01 00 3e 00
