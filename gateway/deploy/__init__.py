"""`gw.py deploy MODEL`: from one file to a service.

`command` reads what was asked, `config` the file of settings, `package` finds the model and what travels
with it, `upload` brings it to a gateway over REST (this process's own, or another), `example` is the request
to try.
"""
