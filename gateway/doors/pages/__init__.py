"""Documents and pages that are answered the same every time: the API's, and the dashboard's."""
