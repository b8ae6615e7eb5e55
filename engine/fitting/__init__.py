"""Parameters from data: PEtab problems, objectives on data, uncertainty."""
