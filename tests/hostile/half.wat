;; Is a module that is cut off in the middle.
;; in: bytes
;; ends: rejected unexpected end
00 61 73 6d 01 00 00 00 01 04 01 60
