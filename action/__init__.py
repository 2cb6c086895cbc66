"""What the GitHub Action does beside the package: inputs in, models found, checks run, answers where people look.

``action.yml`` runs this folder. One direction of data: :mod:`~action.inputs` and :mod:`~action.github` say what
is asked and where, :mod:`~action.models` which models are meant, :mod:`~action.checks` asks the package, and
:mod:`~action.publish` writes reports, annotations, summary, comment and outputs. :mod:`~action.environment` comes
before all that: it needs nothing but Python, and installs the rest.
"""
