"""Objects over HTTP as Amazon S3's clients speak it: signatures, XML, and one function per operation.

What maps to nothing here is answered `NotImplemented`, never as if it had been done (docs/guide/objects.md).
"""
