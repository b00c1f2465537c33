@{
    RootModule        = 'Ebb.BitsTransfer.psm1'
    ModuleVersion     = '0.1.0'
    GUID              = '3f0f5a38-0d3c-4f0e-9d53-8f1f2f5c1c77'
    Author            = 'The Ebb authors'
    Description       = 'The cmdlets of BitsTransfer for ebb. Untested: see the comment in the module.'
    PowerShellVersion = '7.0'
    FunctionsToExport = @(
        'Start-BitsTransfer', 'Add-BitsFile', 'Get-BitsTransfer', 'Set-BitsTransfer',
        'Suspend-BitsTransfer', 'Resume-BitsTransfer', 'Complete-BitsTransfer', 'Remove-BitsTransfer'
    )
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
