"""The command line `pipeline`: what a running gateway is asked and told, and its files of settings.

`main` reads what was asked and ends with an exit code, `parser` has the tree of commands, `asked` is what a
command is given, `failure` what it raises, `output` how it prints, `completion` what a shell completes. Each
file of `commands` is one of them. It asks over REST, as anybody could; nothing here is imported by a gateway.
"""
