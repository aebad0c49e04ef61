# Prints how long the machine has been up.
$boot = (Get-CimInstance Win32_OperatingSystem).LastBootUpTime
(Get-Date) - $boot | ConvertTo-Json
