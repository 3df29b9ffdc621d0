"""The pipeline's steps, free of any scheduler; :mod:`components.pipeline` lists them in order."""
