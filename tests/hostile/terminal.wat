;; Logs a line with escape sequences that would erase a terminal, and that imitates other log lines.
;; in: command
;; ends: completed
(data (i32.const 1024) "\1b[2J\1b]0;owned\07\0dERROR all is lost\0a")
(func (export "_start") (call $say (i32.const 2) (i32.const 1024) (i32.const 36)))
